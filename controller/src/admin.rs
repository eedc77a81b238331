//! RabbitMQ's management API, as far as setting up and checking needs it.
