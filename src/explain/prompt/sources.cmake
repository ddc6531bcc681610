set(DEEPSEEK_EXPLAIN_PROMPT prompt/explain_prompt.cc prompt/prompt_game.cc prompt/prompt_tree.cc)
