"""`heads report`: what a night of runs came to, on one page. `content` computes, `words` says, `page` lays out."""
