"""`aopsam demo`: the real node, fed with photographs, and a report of it."""
