"""The archive over HTTP: for people's browsers and for programs, apart from the recorders' ZeroMQ port."""
