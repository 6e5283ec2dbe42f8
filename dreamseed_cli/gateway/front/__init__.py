"""What the HTTP front asks of the gateway besides answers: models, questions, money for its fallback."""

FRONT_SERVICE = "dreamseed.front.FrontService"
LIST_MODELS = f"/{FRONT_SERVICE}/ListModels"
GET_QUESTION = f"/{FRONT_SERVICE}/GetQuestion"
TAKE_LEASE = f"/{FRONT_SERVICE}/TakeLease"
SETTLE_LEASE = f"/{FRONT_SERVICE}/SettleLease"
