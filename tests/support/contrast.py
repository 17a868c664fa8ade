"""How well texts in a browser can be read."""

# Every text against what lies behind it: WCAG's contrast ratio of its colour and the nearest opaque background.
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const over = ([r, g, b, a = 1], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a)];
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => (layer.length > 2 ? over(layer, below) : below), [255, 255, 255]);
  };
  const poor = [];
  let count = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || node.closest("script, noscript, style, figure.fixed")) continue;
    if (!node.checkVisibility({ visibilityProperty: true }) || node.closest(".out, .skip")) continue;
    const style = getComputedStyle(node);
    const ground = behind(node);
    const colour = over(parse(node.namespaceURI.endsWith("svg") ? style.fill : style.color), ground);
    const [high, low] = [light(colour), light(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    count += 1;
    const said = walker.currentNode.textContent.slice(0, 30);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${node.tagName}.${node.className} ${said}`);
  }
  return [count, poor];
}"""
