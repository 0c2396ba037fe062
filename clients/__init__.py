"""Typed clients of the API for those who build portals: Python and TypeScript, written from the guide's operations.

Owns what writes them (`make clients`) and what notices that they are old. The product imports nothing of this.
"""
