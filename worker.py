"""As `firebreak worker`: the P1 process, the process for the rest, and the outbox. The gateway runs apart."""

from firebreak.engine.worker import main

if __name__ == "__main__":
    main()
