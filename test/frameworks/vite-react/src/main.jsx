import { createRoot } from "react-dom/client";

createRoot(document.getElementById("root")).render(<h1>Vite + React in the browser</h1>);
