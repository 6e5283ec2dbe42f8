"""The document's own figures of cost, recomputed: §C1, §C3, §F1 to §F3, §J2, and where they contradict."""
