/** The two secrets of a GitLab webhook, both made of one: a token that is sent in the clear, and a key that never is. */
import { createHmac } from "node:crypto";

/** What is sent in the clear as `X-Gitlab-Token`: derived, so that it does not tell the key of the signatures. */
export function gitlabToken(secret: string): string {
  return createHmac("sha256", secret).update("X-Gitlab-Token").digest("hex");
}

/** The key of the signatures, in the form that GitLab asks for. */
export function gitlabSigningToken(secret: string): string {
  return `whsec_${createHmac("sha256", secret).update("signing_token").digest("base64")}`;
}
