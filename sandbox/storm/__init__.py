"""The hostile bank: plan.py writes its day, play.py sends it, report.py says where every kopeck went.

Started by the command and by the page through run.py. Knows the shop it judges over HTTP alone.
"""
