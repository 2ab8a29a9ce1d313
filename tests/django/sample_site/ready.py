"""What happens when the app is made."""

apps_seen = []


def remember(app):
    apps_seen.append(app)
