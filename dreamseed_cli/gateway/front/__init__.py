"""What the HTTP front asks of the gateway besides answers: models, questions, money for its fallback; and
what it tells of the requests that ended at it.
"""

FRONT_SERVICE = "dreamseed.front.FrontService"
LIST_MODELS = f"/{FRONT_SERVICE}/ListModels"
GET_QUESTION = f"/{FRONT_SERVICE}/GetQuestion"
TAKE_LEASE = f"/{FRONT_SERVICE}/TakeLease"
SETTLE_LEASE = f"/{FRONT_SERVICE}/SettleLease"
RECORD_REFUSALS = f"/{FRONT_SERVICE}/RecordRefusals"
MOST_AT_ONCE = 200
"""The requests that one SettleLease or RecordRefusals tells of: at their longest some 400 KiB."""
POSTGRES_AWAY = "postgres_away"
"""The reason in the trailer of a call that failed because PostgreSQL does not answer: the gateway does."""
