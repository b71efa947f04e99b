"""A Gemini server for the tests: the wire protocol, the limits and the faults, on loopback, with a meter.

Nothing here was checked against Google's own servers; what is not known is marked as a guess where it is decided.
Tests start one with `support.gemini.server.FakeGemini`; a room never imports the program it tests, but for its clock.

    rules     what the account is: keys, models, prices, limits
    refusals  Google's error bodies
    faults    trouble on demand
    meter     what was asked, at what rate and for how much
    quotas    who may call now
    files     upload sessions and stored files
    uploads   the two upload protocols
    schema    values that fit a schema, with words from `lessons`
    generate  tokens, answers, usage
    service   one request to one reply
    wire      HTTP, and the faults that live on the wire
    server    start, stop, command line
    clients   the real SDKs and plain HTTP, for tests
"""
