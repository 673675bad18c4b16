// Arguments `--name value`, also where util.parseArgs is not there yet.

"use strict";

exports.words = ([, , ...given]) => {
  const found = {};
  for (let i = 0; i + 1 < given.length; i += 2) {
    found[given[i].replace(/^--/, "")] = given[i + 1];
  }
  return found;
};
