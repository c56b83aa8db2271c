"""Image models of timm that are worth a try for nouns. Loads nothing, so that they can be listed at once."""

TIMM_MODELS = (
    "timm:vit_pe_core_base_patch16_224.fb",
    "timm:vit_pe_core_large_patch14_336.fb",
    "timm:vit_pe_spatial_large_patch14_448.fb",
    "timm:vit_base_patch16_dinov3.lvd1689m",
    "timm:vit_large_patch16_dinov3.lvd1689m",
    "timm:vit_huge_plus_patch16_dinov3.lvd1689m",
    "timm:eva02_large_patch14_clip_336.merged2b",
    "timm:vit_so400m_patch14_siglip_378.v2_webli",
    "timm:vit_so400m_patch16_siglip_512.v2_webli",
    "timm:aimv2_large_patch14_336.apple_pt",
    "timm:convnext_large.dinov3_lvd1689m",
    "timm:convnext_large_mlp.clip_laion2b_soup_ft_in12k_in1k_384",
)
