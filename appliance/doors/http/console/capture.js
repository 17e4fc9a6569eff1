// Runs in the browser's audio thread: hands every block of the microphone to the page, untouched.
registerProcessor("capture", class extends AudioWorkletProcessor {
  process([input]) {
    if (input[0]) this.port.postMessage(input[0].slice());
    return true;
  }
});
