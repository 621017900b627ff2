"""The doctor for Apple bundles: what refuses a Network Extension, why, and how to mend it. Nothing is executed."""
