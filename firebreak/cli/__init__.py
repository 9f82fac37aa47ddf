"""The command `firebreak`: one file per verb, each with `register(app)` or a sub-application `app`."""
