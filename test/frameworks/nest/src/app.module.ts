import { Body, Controller, Get, Injectable, Module, Param, Post, Query } from "@nestjs/common";

@Injectable()
export class Greeting {
  text(): string {
    return "nest";
  }
}

@Controller()
export class AppController {
  constructor(private readonly greeting: Greeting) {}

  @Get()
  index(): object {
    return { hello: this.greeting.text() };
  }

  @Get("users/:id")
  user(@Param("id") id: string, @Query() query: object): object {
    return { id, query };
  }

  @Post("api/echo")
  echo(@Body() body: object): object {
    return body;
  }
}

@Module({ controllers: [AppController], providers: [Greeting] })
export class AppModule {}
