"""What follows from the bill: how sure it is, what moves it, whether to buy, what to buy, and when."""
