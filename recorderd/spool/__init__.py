"""The spool: the only link between the recorder and the flush; see ``layout``."""
