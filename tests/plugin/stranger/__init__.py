"""What a stranger adds: a method, a judge, an engine, an observer, and in `sets` a task and a safety set."""
