"""The composition root: settings become connectors, stores, hands and workers; and the loops that drive them."""
