"""What belongs to other packages' worlds: connectors on other drivers, frameworks. Nothing here is imported unasked."""
