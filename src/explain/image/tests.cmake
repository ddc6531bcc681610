deepseek_test(explain image/superpixels_test)
deepseek_test(explain image/explain_image_test)
