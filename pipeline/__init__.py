"""DynamoDB Migration Monitor: is the target the same as the source, how far behind, may we switch?"""

__version__ = "0.1.0"
