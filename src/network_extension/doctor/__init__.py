"""The doctor for app bundles with Network Extensions: reads a built bundle on any system, executes nothing, and says
what Apple's systems will refuse.
"""
