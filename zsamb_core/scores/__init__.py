"""Style scores by DINO and CLIP, of tensors and of folders of pictures."""
