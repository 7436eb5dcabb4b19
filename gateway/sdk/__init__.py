"""Unmodified SDKs in this process: a transport for httpx and one for httpx2, with the whole gateway behind them.

An SDK's request is matched with a declared operation and published as a call, and a worker of this process works on it together
with any others. What comes of it is given back as the response, or as the exception, that the SDK was written for.
"""
