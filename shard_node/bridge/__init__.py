"""The bridge to disnake: the only place that imports it.

| module | takes hold of |
| --- | --- |
| ``check`` | nothing; says which private names the others rely on, and checks them |
| ``install`` | the classes, all patches at one place |
| ``origin`` | the base URLs of REST and the CDN |
| ``gateway`` | the websocket and the shard: IDENTIFY, RESUME, close codes |
| ``hold`` | one bot: its shards, their connecting and recovering |
| ``permits`` | the broker's permission to IDENTIFY |
| ``reports`` | what the heartbeat says of the shards |
| ``stop`` | signals, draining, closing |
| ``commands`` | the election of the node that syncs commands |
| ``cogs`` | cogs as they load and unload: their handlers of the fleet's messages |
| ``witness`` | on the sandbox, every dispatch |
| ``capture`` | the author's file |
| ``execute`` | commands that run for another node or an operator |
| ``slash``, ``prefix``, ``options`` | those commands by name, and their options |
| ``stage`` | the user, guild and channel that they meet |
| ``replies`` | what they answer |
"""
