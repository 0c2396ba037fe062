// The page for trying queries: GraphiQL, and a field for the token in front of it. Bundled by `make ide`.
import "graphiql/style.css";
import "./page.css";
import { createGraphiQLFetcher } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createClient } from "graphql-ws";
import { useMemo, useState } from "react";
import { createRoot } from "react-dom/client";

const WELCOME = `# Ctrl+Space completes, Ctrl+Enter asks.
# The book on the left is the schema.
{
  viewer {
    role
    name
    serverTime
    permissions
  }
}
`;
// Kept until the tab is closed, and nowhere else.
const KEY = "abeyance-token";

function fetcherFor(token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const url = new URL("graphql", location.href).href;
  return createGraphiQLFetcher({
    url,
    headers,
    wsClient: createClient({ url: url.replace(/^http/, "ws"), connectionParams: headers }),
  });
}

function Page() {
  const [token, setToken] = useState(sessionStorage.getItem(KEY) ?? "");
  const fetcher = useMemo(() => fetcherFor(token), [token]);
  const use = (event) => {
    event.preventDefault();
    const typed = new FormData(event.currentTarget).get("token").trim();
    sessionStorage.setItem(KEY, typed);
    setToken(typed);
  };
  return (
    <>
      <form className="token" onSubmit={use}>
        <strong>Abeyance</strong>
        <label>
          Token <input name="token" type="password" autoComplete="off" spellCheck={false} defaultValue={token} />
        </label>
        <button>Use</button>
        <span>{token ? "Asking with this token." : "Paste a token to read the schema and to ask."}</span>
      </form>
      {/* Another token begins anew; without one the schema is not even asked for. */}
      <GraphiQL key={token} fetcher={fetcher} schema={token ? undefined : null} defaultQuery={WELCOME} shouldPersistHeaders={false}>
        <GraphiQL.Logo>
          <></>
        </GraphiQL.Logo>
      </GraphiQL>
    </>
  );
}

createRoot(document.getElementById("page")).render(<Page />);
