deepseek_test(explain prompt/prompt_tree_test)
deepseek_test(explain prompt/prompt_game_test)
