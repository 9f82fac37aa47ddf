"""Timeline -> post-mortem (Markdown, JSON) and notices for people. Pure: the same entries give the same bytes."""
