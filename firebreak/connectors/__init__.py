"""The only vendor clients: Kubernetes, Prometheus, Slack, PagerDuty, and HTTP."""
