set(DEEPSEEK_EXPLAIN_RELIANCE reliance/augment_table.cc reliance/plan_augmentation.cc reliance/proxies.cc reliance/reliance.cc reliance/shares.cc reliance/tables.cc)
