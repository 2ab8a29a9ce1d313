"""One program under both implementations: what they see and leave behind is compared."""
