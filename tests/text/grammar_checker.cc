#include "text/grammar_checker.h"

#include <unistd.h>

int main() { ridge::text::serve_grammar_checks(STDIN_FILENO); }
