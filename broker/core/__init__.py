"""The broker's pure core: queues, routing table, router, plan, and their vocabulary."""
