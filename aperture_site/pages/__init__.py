"""The pages of those who call models and pay: one module a page, above all the other packages and without rules of its
own. Every action is a form that works without JavaScript; what is not the reader's is 404."""
