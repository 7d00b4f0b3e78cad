// Files that are chosen, dropped or pasted. Pictures are sent; text and PDF files too where the bot
// reads them, else text goes into the message box.
const MAX_FILE = 5_000_000;
const MAX_IMAGE = 10_000_000;
const TEXT_TYPES = /^(text\/|application\/(json|xml|x-yaml|yaml|toml|javascript|x-sh|sql))/;
const TEXT_NAMES = /\.(txt|md|markdown|csv|tsv|log|json|jsonl|ya?ml|toml|ini|cfg|conf|xml|html?|css|m?js|ts|py|rb|go|rs|c|h|cpp|java|kt|sh|sql|tex|srt|diff|patch)$/i;

const isPdf = (file) => file.type === "application/pdf" || /\.pdf$/i.test(file.name);
const isText = (file) => TEXT_TYPES.test(file.type) || TEXT_NAMES.test(file.name);

// Returns {pictures, files, text, refused}: what can be used, and a sentence for the first that cannot.
export async function readFiles(files, { picturesLeft, maxPictures, filesLeft, maxFiles, charsLeft }) {
  const result = { pictures: [], files: [], text: "", refused: "" };
  const refuse = (sentence) => { result.refused ||= sentence; };
  for (const file of files) {
    if (file.type.startsWith("image/")) {
      if (!maxPictures) refuse("Images are switched off (vision.enabled).");
      else if (file.size > MAX_IMAGE) refuse(`${file.name} is larger than 10 MB.`);
      else if (result.pictures.length < picturesLeft) result.pictures.push({ name: file.name || "picture", url: await dataUrl(file) });
      else refuse(`${maxPictures} images per message; the others were not added.`);
    } else if (maxFiles && (isText(file) || isPdf(file))) {
      if (file.size > MAX_FILE) refuse(`${file.name} is larger than 5 MB.`);
      else if (result.files.length < filesLeft) result.files.push({ name: file.name, url: await dataUrl(file) });
      else refuse(`${maxFiles} files per message; the others were not added.`);
    } else if (isText(file)) {
      const text = await asBlock(file, charsLeft - result.text.length).catch(() => "");
      if (text) result.text += text;
      else refuse(`${file.name} is too long for a message, or no text.`);
    } else refuse(`${file.name} cannot be read here: only images and ${maxFiles ? "text and PDF" : "text"} files can.`);
  }
  return result;
}

async function asBlock(file, charsLeft) {
  if (file.size > 4 * charsLeft) return "";
  const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()).trimEnd();
  // A fence that is longer than any in the file.
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((ticks) => ticks.length));
  const fence = "`".repeat(longest + 1);
  const language = file.name.includes(".") ? file.name.split(".").pop() : "";
  const block = `${file.name}:\n${fence}${language}\n${text}\n${fence}\n`;
  return block.length > charsLeft || text.includes("\0") ? "" : block;
}

function dataUrl(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}
