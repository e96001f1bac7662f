"""What nodes say to each other.

| module | is |
| --- | --- |
| ``outbox`` | the sender's lanes, its window, what is kept until it is settled (pure) |
| ``asks`` | one message that somebody waits for, and its deadline (pure) |
| ``inbox`` | the receiver's lanes, de-duplication, receipts, credit (pure) |
| ``senders`` | what is remembered of those that say something (pure) |
| ``handlers`` | who handles which topic, and what a handler gets |
| ``dispatch`` | starting handlers in order, each stepped until it first suspends |
| ``plane`` | the asyncio shell of them all |
| ``api`` | what a bot's author calls |
| ``connect`` | any Python process as a client of the fleet |
"""
