"""Will it hold: a seeded simulation of a request's whole way (§A2), and closed forms to hold it against."""
