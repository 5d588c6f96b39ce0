import { Component, signal } from "@angular/core";
import { bootstrapApplication } from "@angular/platform-browser";

@Component({ selector: "app-root", template: "<h1>{{ title() }}</h1>" })
class App {
  readonly title = signal("Angular");
}

void bootstrapApplication(App);
