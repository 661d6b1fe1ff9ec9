// Formulas that arithmatex has marked, also after a page was loaded without a reload.
function renderFormulas() {
  document.querySelectorAll(".arithmatex").forEach((element) =>
    renderMathInElement(element, {
      delimiters: [
        { left: "\\[", right: "\\]", display: true },
        { left: "\\(", right: "\\)", display: false },
      ],
      throwOnError: false,
    }),
  );
}
window.addEventListener("load", renderFormulas);
