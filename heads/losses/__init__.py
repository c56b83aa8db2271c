"""What training minimises: losses of verbs, nouns and actions, and distillation. Knows no model."""
