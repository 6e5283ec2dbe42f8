"""`python -m dreamseed_cli`: the same program as the `dreamseed` command."""

from dreamseed_cli.app import main

if __name__ == "__main__":
    main()
