"""Virtual users by Locust, in processes of their own: gevent must not meet this program's asyncio.

`plan` says who asks for what, `crew` runs it (a master and workers, `python -m` this package), `front` and
`questions` provide what is asked, `figures` judges what was recorded.
"""
