// Files of a drop, a choice or the clipboard, with the paths below their folders.

const PICTURE = /\.(jpe?g|jfif|png|webp|avif|heic|gif|tiff?)$/i;
const HIDDEN = /(^|\/)(\.[^/]*|Thumbs\.db|desktop\.ini)$/i;

// Returns [{file, name}] and the number of files that are no pictures.
export async function filesOfDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return pictures([...transfer.files].map((file) => ({ file, name: file.name })));
  const found = [];
  for (const entry of entries) await collect(entry, found);
  return pictures(found);
}

export function filesOfInput(input) {
  return pictures([...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
}

export function filesOfClipboard(data) {
  return pictures([...data.files].map((file) => ({ file, name: file.name })));
}

function pictures(found) {
  const seen = found.filter(({ name }) => !HIDDEN.test(name));
  const chosen = seen.filter(({ file, name }) => file.type.startsWith("image/") || PICTURE.test(name));
  return { chosen, leftOut: seen.length - chosen.length };
}

async function collect(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) found.push({ file, name: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // a reader gives a part of a folder at a time
    const part = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!part.length) return;
    for (const child of part) await collect(child, found);
  }
}
