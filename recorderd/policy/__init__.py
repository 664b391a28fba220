"""Pure decisions: who is recorded, and what is admitted."""
