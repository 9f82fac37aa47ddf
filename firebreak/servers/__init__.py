"""The real servers: find, download or build, start, tune and stop them."""
