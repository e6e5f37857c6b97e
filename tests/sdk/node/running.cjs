// Runs scenarios one after the other and prints one JSON object: what became of each, "passed" or its error.
module.exports = async function run(scenarios, ...given) {
  const found = {};
  for (const [name, scenario] of Object.entries(scenarios)) {
    try {
      await scenario(...given);
      found[name] = "passed";
    } catch (error) {
      found[name] = `${error.stack ?? error}`.slice(0, 2000);
    }
  }
  console.log(JSON.stringify(found));
};
