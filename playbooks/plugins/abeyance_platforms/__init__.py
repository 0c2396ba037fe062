"""What the action plugins are made of: targets, permits, comparison, procedures and the drivers per platform.

Plain Python on the standard library, so that a play runs with any ansible-core 2.19 and nothing else installed.
Must not import the product's packages, and holds no verb that deletes.
"""
