// Nothing is built from here: the Gateway API's resource definitions are copied out of the checked module.
module firebreak.invalid/tools/gateway_api

go 1.25.0

require sigs.k8s.io/gateway-api v1.4.0
