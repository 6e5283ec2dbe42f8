"""Every request becomes an event, and none is lost: journal, outbox, relay."""
