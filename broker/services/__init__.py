"""The broker's services, one module each: ``on(event, now) -> effects``.

They are pure; ``registry`` lists them, ``machine`` puts them together with the router.
"""
